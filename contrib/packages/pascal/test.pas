program Test;
uses SysUtils;
var
  Number, Sum: Integer;
  Input: string;
begin
  Sum := 0;
  for Number in [1, 2, 4] do Sum := Sum + Number;
  ReadLn(Input);
  if StrToInt(Trim(Input)) <> Sum then Halt(1);
  WriteLn('OK');
end.
