import { defineConfig } from "vitest/config";

/** Each test starts servers and browsers; what takes longer than this hangs. */
const PATIENCE = 180_000;

export default defineConfig({
  test: {
    root: "browser",
    include: ["*.test.ts"],
    testTimeout: PATIENCE,
    hookTimeout: PATIENCE,
    fileParallelism: false,
  },
});
