import { defineConfig } from "vite";

/** Where the server of `npm run demo` is; it needs a `[demo]` section. */
const server = process.env["TIDEMILL_URL"] ?? "http://127.0.0.1:8000";

export default defineConfig({
  base: "/demo/",
  esbuild: { jsx: "automatic", legalComments: "inline" },
  server: {
    port: 3000,
    proxy: { "/demo/config.json": server, "/track": server, "/events": server, "/v1": server },
  },
  build: {
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    // Three files with fixed names: they are compiled into the server.
    rollupOptions: {
      output: { entryFileNames: "app.js", assetFileNames: "app[extname]" },
      // "use client" says something to servers that render React; there is none here.
      onwarn: (warning, warn) => (warning.code === "MODULE_LEVEL_DIRECTIVE" ? undefined : warn(warning)),
    },
  },
});
