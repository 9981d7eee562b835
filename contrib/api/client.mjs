// The npm package `piston-client` against the v2 API of the server whose address is given.
import assert from "node:assert/strict";
import piston from "piston-client";

const client = piston({ server: process.argv[2] });
const runtimes = await client.runtimes();
assert(runtimes.some((runtime) => runtime.language === "bash"));
const code = 'read line; echo "heard $line"; exit 3';
const files = [{ content: code }];
const reply = await client.execute({ language: "bash", version: "*", files, stdin: "me" });
assert.equal(reply.run.output, "heard me\n");
assert.equal(reply.run.code, 3);
console.log("piston-client: works");
