/** In a worker: an adapter of WebGPU that gives no device; the page is told what is warned of. */

const channel = new BroadcastChannel("broken_gpu");
const adapter = { info: {}, features: new Set(), limits: {}, requestDevice: () => Promise.reject(new Error("no device")) };

Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => adapter } });
console.warn = (/** @type {unknown} */ text) => channel.postMessage(text);
