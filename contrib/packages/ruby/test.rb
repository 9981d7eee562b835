require "digest"
require "json"
require "set"

sum = JSON.parse("[1, 2, 3]").sum
abort unless sum == 6 && gets.to_i == 7 && Digest::SHA256.hexdigest("x").length == 64
puts "OK"
