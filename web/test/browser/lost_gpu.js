/**
 * For a worker: WebGPU devices that are lost on a message of the page. Their adapter does not report being emulated.
 * Warnings are sent to the page.
 */

const channel = new BroadcastChannel("lost_gpu"), { GPUAdapter, GPUAdapterInfo } = /** @type {any} */ (globalThis);
const { requestDevice } = GPUAdapter.prototype;

Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { value: false });
GPUAdapter.prototype.requestDevice = async function (/** @type {any[]} */ ...args) {
  const device = await requestDevice.apply(this, args);
  channel.onmessage = () => device.destroy();
  return device;
};
console.warn = (/** @type {unknown} */ text) => channel.postMessage(text);
