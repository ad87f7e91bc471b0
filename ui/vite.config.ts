import { defineConfig } from "vite";

// Relative addresses, so that the pages work below any --web.route-prefix. What is written to `dist` is committed and
// embedded into the binary: it must come out the same on every machine, so nothing of this one may get into it.
export default defineConfig({
  base: "./",
  publicDir: false,
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    // Policies of the server forbid inline scripts, and there is nothing to save here.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    license: { fileName: "licenses.md" },
    rolldownOptions: { input: ["query.html"] },
  },
  server: { proxy: { "/api": "http://127.0.0.1:9090", "/favicon.ico": "http://127.0.0.1:9090" } },
});
