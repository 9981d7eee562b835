input = str2double(fgetl(stdin));
solved = [2 0; 0 4] \ [2; 4];
if sum([1 2 4]) != input || any(abs(solved - [1; 1]) > 1e-9)
  exit(1);
end
disp("OK");
