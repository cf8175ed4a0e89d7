// Makes a component of a core module: component.mjs (command|reactor|pure) CORE.wasm OUT.wasm [WIT]
//
// `command` and `reactor` bridge WASI 0.1 to 0.2 with the adapter that jco brings; `pure` is for modules that
// import nothing. With WIT, a file, the module gets the types of the world `worker` in it.

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const [kind, core, out, wit] = process.argv.slice(2);
const require = createRequire(join(process.env.POLYGLOT_NPM, "package.json"));
const jco = require.resolve("@bytecodealliance/jco");
const { componentEmbed, componentNew } = await import(pathToFileURL(jco));

let module = await readFile(core);
if (wit) {
  module = await componentEmbed({
    binary: module,
    witSource: await readFile(wit, "utf8"),
    world: "worker",
  });
}
const adapters = [];
if (kind !== "pure") {
  const adapter = join(dirname(jco), "../lib", `wasi_snapshot_preview1.${kind}.wasm`);
  adapters.push(["wasi_snapshot_preview1", await readFile(adapter)]);
}
await writeFile(out, await componentNew(module, adapters));
