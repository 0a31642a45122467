/**
 * What runs networks: ONNX Runtime, in its build for WebGPU where a browser has an adapter, else in that for
 * WebAssembly. Only the build that is taken is loaded.
 */

/** @typedef {"wasm" | "webgpu"} Backend */
/** @typedef {typeof import("onnxruntime-web")} Library */
/** @typedef {import("onnxruntime-web").InferenceSession} InferenceSession */

/**
 * A model as a backend takes it.
 * @typedef {{bytes: Uint8Array, graphOptimizationLevel?: "basic" | "all"}} Model
 */
/** @typedef {{values: Float32Array, shape: number[]}} Input */

const MAX_THREADS = 4; // more gain little
const LIBRARIES = {
  /** @returns {Promise<Library>} */
  wasm: () => import("onnxruntime-web"),
  /** @returns {Promise<Library>} */
  webgpu: () => import("onnxruntime-web/webgpu"),
};

/** The choice of a backend, for all networks that are opened by it. */
export class Runtime {
  /**
   * @param {Backend} [backend] the only one that may be taken; else it is WebGPU where that is to be had by a real
   *   device, and WebAssembly from then on if that fails
   * @throws {RangeError} if there is none of that name
   */
  constructor(backend) {
    if (backend && !Object.hasOwn(LIBRARIES, backend)) {
      throw new RangeError(`backend ${backend}, expected wasm or webgpu`);
    }
    this._isOpen = !backend;
    /** @type {Promise<Backend> | undefined} */
    this._backend = backend && Promise.resolve(backend);
  }

  /**
   * Return the backend that is taken.
   * @returns {Promise<Backend>}
   */
  backend() {
    this._backend ??= hasDevice().then((has) => (has ? "webgpu" : "wasm"));
    return this._backend;
  }

  /**
   * Take WebAssembly from now on, and say so, since WebGPU failed; if it must be WebGPU, throw.
   * @param {unknown} error
   */
  giveUp(error) {
    if (!this._isOpen) throw error;
    console.warn(`WebGPU failed, so that networks run by WebAssembly from now on: ${error}`);
    this._isOpen = false;
    this._backend = Promise.resolve("wasm");
  }
}

/** A network that is ready to run. */
export class Session {
  /**
   * Use `open`.
   * @param {Runtime} runtime
   * @param {(backend: Backend) => Promise<Model>} load
   */
  constructor(runtime, load) {
    this._runtime = runtime;
    this._load = load;
    /** @type {{backend: Backend, session: InferenceSession} | undefined} */
    this._active = undefined;
  }

  /**
   * Return a network by the backend that a runtime takes.
   * @param {Runtime} runtime
   * @param {(backend: Backend) => Promise<Model>} load gives the model, again if a backend fails
   * @returns {Promise<Session>}
   */
  static async open(runtime, load) {
    const session = new Session(runtime, load);
    await session._with(async () => {});
    return session;
  }

  get _activeSession() {
    return /** @type {NonNullable<typeof this._active>} */ (this._active);
  }

  /** By what the network ran last, or will run. */
  get backend() {
    return this._activeSession.backend;
  }

  /**
   * Return the values of the network's outputs, by name.
   * @param {Record<string, Input>} inputs
   * @returns {Promise<Record<string, Float32Array>>}
   */
  run(inputs) {
    return this._with(async ({ Tensor }) => {
      const given = Object.entries(inputs).map(([name, { values, shape }]) => {
        return [name, new Tensor("float32", values, shape)];
      });
      const found = Object.entries(await this._activeSession.session.run(Object.fromEntries(given)));
      return Object.fromEntries(found.map(([name, { data }]) => [name, /** @type {Float32Array} */ (data)]));
    });
  }

  /**
   * Do something by the backend that is taken, and again by the next if that fails.
   * @template T
   * @param {(library: Library) => Promise<T>} act
   * @returns {Promise<T>}
   */
  async _with(act) {
    const backend = await this._runtime.backend();
    const started = LIBRARIES[backend]();
    started.catch(() => {}); // told below, unless the model fails before
    const model = this._active?.backend === backend ? null : await this._load(backend);
    try {
      const library = await started;
      if (model) this._active = { backend, session: await sessionOf(library, model, backend) };
      return await act(library);
    } catch (error) {
      if (backend === "wasm") throw error;
      if (await this._runtime.backend() === backend) this._runtime.giveUp(error); // unless another network's did
      return this._with(act);
    }
  }
}

/**
 * @param {Library} library
 * @param {Model} model
 * @param {Backend} backend
 */
function sessionOf({ InferenceSession, env }, { bytes, ...options }, backend) {
  // By itself ONNX Runtime takes half of the cores; with WebGPU next to nothing is left for threads.
  if (globalThis.crossOriginIsolated) {
    env.wasm.numThreads ||= backend === "wasm" ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
  }
  return InferenceSession.create(bytes, { executionProviders: [backend], ...options });
}

/** Return whether there is an adapter of WebGPU that is no emulation by the processor, as WebAssembly is faster. */
async function hasDevice() {
  const { gpu } = /** @type {{gpu?: {requestAdapter: () => Promise<any>}}} */ (globalThis.navigator ?? {});
  const adapter = await gpu?.requestAdapter();
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}
