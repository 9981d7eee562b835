// The npm package piston-client, told another host and nothing else; prints as clients.py does.
import { piston } from "piston-client";

const client = piston({ server: process.argv[2] });
const languages = (await client.runtimes()).map((runtime) => runtime.language).sort();
const ran = await client.execute("python", "print('hi ' + input())", { stdin: "there" });
console.log(JSON.stringify({ languages, output: ran.run.output }));
