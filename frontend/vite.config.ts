import { defineConfig } from "vite";

// `npm run build` writes the screens into the Python package, which serves them itself:
// relative addresses, hashed names, nothing inlined (the content policy allows no inline code).
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/workshop_brain/web/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": { target: "http://127.0.0.1:8791", ws: true } },
  },
});
