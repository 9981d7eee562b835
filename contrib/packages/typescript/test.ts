import { readFileSync } from "fs";

interface Summed { readonly sum: number }

function summed(...numbers: number[]): Summed {
    return { sum: numbers.reduce((a, b) => a + b, 0) };
}

const input: number = Number(readFileSync(0, "utf8"));
if (summed(1, 2, 4).sum !== input) process.exit(1);
console.log("OK");
