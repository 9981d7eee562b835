const { createHash } = require("crypto");
const input = require("fs").readFileSync(0, "utf8");
const sum = [1, 2, 3].reduce((a, b) => a + b, 0);
if (sum !== 6 || Number(input) !== 7) process.exit(1);
if (createHash("sha256").update("x").digest("hex").length !== 64) process.exit(2);
Promise.resolve("OK").then((text) => console.log(text));
