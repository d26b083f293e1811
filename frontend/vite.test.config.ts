import { defineConfig } from "vite";

// Bundles the unit tests for node's own test runner, so that they run the very modules of the
// screens without another test framework.
export default defineConfig({
  build: {
    ssr: "test/all.ts",
    outDir: "build",
    emptyOutDir: true,
    target: "node20",
    rollupOptions: { output: { entryFileNames: "test.js" } },
  },
});
