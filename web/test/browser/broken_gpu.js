/** For a worker: a WebGPU adapter that provides no device. Warnings are sent to the page. */

const channel = new BroadcastChannel("broken_gpu");
const adapter = { info: {}, features: new Set(), limits: {}, requestDevice: () => Promise.reject(new Error("no device")) };

Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => adapter } });
console.warn = (/** @type {unknown} */ text) => channel.postMessage(text);
