/**
 * A static server for the benchmark and the browser test: folders under prefixes, cross-origin isolated.
 * @module
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.mjs': 'text/javascript', '.js': 'text/javascript', '.html': 'text/html', '.json': 'application/json',
  '.wasm': 'application/wasm' };

/** The page: nothing but the names of packages that modules of packages import. */
const PAGE = `<!doctype html><link rel="icon" href="data:,"><script type="importmap">{"imports":
  {"@litertjs/wasm-utils": "/packages/@litertjs/wasm-utils/dist/index.js"}}</script><body></body>`;

/**
 * @param {Record<string, string>} folders prefix (`/web/`) to folder
 * @returns {Promise<{origin: string, close: () => void}>}
 */
export async function serve(folders) {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    const head = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp',
      'Cross-Origin-Resource-Policy': 'same-origin', 'Cache-Control': 'no-store' };
    if (path === '/') {
      response.writeHead(200, { ...head, 'Content-Type': 'text/html' });
      response.end(PAGE);
      return;
    }
    for (const [prefix, folder] of Object.entries(folders)) {
      if (!path.startsWith(prefix)) continue;
      try {
        const content = await readFile(join(folder, path.slice(prefix.length)));
        const type = TYPES[/** @type {keyof typeof TYPES} */ (extname(path))] ?? 'application/octet-stream';
        response.writeHead(200, { ...head, 'Content-Type': type });
        response.end(content);
        return;
      } catch {
        break;
      }
    }
    response.writeHead(404, head);
    response.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { origin: `http://127.0.0.1:${port}`, close: () => server.close() };
}
