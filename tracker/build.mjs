// Builds the package: dist/esm and dist/cjs, each with its declarations, and looks whether both can be loaded.

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const compiler = require.resolve("typescript/bin/tsc");
const folder = new URL(".", import.meta.url);

rmSync(new URL("dist", folder), { recursive: true, force: true });
for (const project of ["tsconfig.esm.json", "tsconfig.cjs.json"]) {
  execFileSync(process.execPath, [compiler, "--project", project], { cwd: folder, stdio: "inherit" });
}
// The package says that its files are ES modules; these are not.
writeFileSync(new URL("dist/cjs/package.json", folder), '{ "type": "commonjs" }\n');

const imported = await import("react-user-tracker");
const required = require("react-user-tracker");
for (const name of ["UserTracker", "TrackerProvider", "useUserTracker", "usePageView", "useTracker"]) {
  if (typeof imported[name] !== "function" || typeof required[name] !== "function") {
    throw new Error(`the package does not export \`${name}\` both ways`);
  }
}
if (typeof (await import("react-user-tracker/tracker")).UserTracker !== "function") {
  throw new Error("the class cannot be imported alone");
}
