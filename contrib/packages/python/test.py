import collections, ctypes, decimal, json, re, ssl, sqlite3, sys, threading, zlib

numbers = json.loads("[1, 2, 3]")
assert sum(numbers) == 6 and int(sys.stdin.readline()) == 7
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
print("OK")
