local sum = 0
for number in string.gmatch("1 2 3", "%d+") do sum = sum + tonumber(number) end
assert(sum == 6 and io.read("n") == 7)
print("OK")
