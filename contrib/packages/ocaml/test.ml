let () =
  let sum = List.fold_left ( + ) 0 [ 1; 2; 4 ] in
  let words = Str.split (Str.regexp " ") "a b c" in
  if sum = int_of_string (String.trim (read_line ())) && List.length words = 3 then print_endline "OK"
  else exit 1
