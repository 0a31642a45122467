/** In a worker: devices of WebGPU that are lost when the page says so, of an adapter that passes for a real one. */

const channel = new BroadcastChannel("lost_gpu"), { GPUAdapter, GPUAdapterInfo } = /** @type {any} */ (globalThis);
const { requestDevice } = GPUAdapter.prototype;

Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { value: false });
GPUAdapter.prototype.requestDevice = async function (/** @type {any[]} */ ...args) {
  const device = await requestDevice.apply(this, args);
  channel.onmessage = () => device.destroy();
  return device;
};
console.warn = (/** @type {unknown} */ text) => channel.postMessage(text);
