/**
 * Runs networks by ONNX Runtime: its WebGPU build if the browser has an adapter, else its WebAssembly build. Only the
 * chosen build is loaded.
 */

/** @typedef {"wasm" | "webgpu"} Backend */
/** @typedef {typeof import("onnxruntime-web")} Library */
/** @typedef {import("onnxruntime-web").InferenceSession} InferenceSession */

/**
 * A model in the form for a backend.
 * @typedef {{bytes: Uint8Array, graphOptimizationLevel?: "basic" | "all"}} Model
 */
/** @typedef {{values: Float32Array, shape: number[]}} Input */

const MAX_THREADS = 4; // more threads are hardly faster
const LIBRARIES = {
  /** @returns {Promise<Library>} */
  wasm: () => import("onnxruntime-web"),
  /** @returns {Promise<Library>} */
  webgpu: () => import("onnxruntime-web/webgpu"),
};

/** The choice of a backend, shared by all networks of a runtime. */
export class Runtime {
  /**
   * @param {Backend} [backend] the only backend to use. By default it is WebGPU if a real device exists, and
   *   WebAssembly after WebGPU fails.
   * @throws {RangeError} if the backend is unknown
   */
  constructor(backend) {
    if (backend && !Object.hasOwn(LIBRARIES, backend)) {
      throw new RangeError(`backend ${backend}, expected wasm or webgpu`);
    }
    this._mayFallBack = !backend;
    /** @type {Promise<Backend> | undefined} */
    this._backend = backend && Promise.resolve(backend);
  }

  /**
   * Return the chosen backend.
   * @returns {Promise<Backend>}
   */
  backend() {
    this._backend ??= hasDevice().then((has) => (has ? "webgpu" : "wasm"));
    return this._backend;
  }

  /**
   * Switch to WebAssembly with a warning, after WebGPU failed. Rethrow the error if WebGPU was requested.
   * @param {unknown} error
   */
  fallBack(error) {
    if (!this._mayFallBack) throw error;
    console.warn(`WebGPU failed; networks now run by WebAssembly: ${error}`);
    this._mayFallBack = false;
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
   * Open a network with the runtime's backend.
   * @param {Runtime} runtime
   * @param {(backend: Backend) => Promise<Model>} load returns the model for a backend; it is called again after a
   *   backend fails
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

  /** The backend that ran the network last, or that will run it. */
  get backend() {
    return this._activeSession.backend;
  }

  /**
   * Run the network. Return the values of its outputs by name.
   * @param {Record<string, Input>} inputs
   * @returns {Promise<Record<string, Float32Array>>}
   */
  run(inputs) {
    return this._with(async ({ Tensor }) => {
      const tensors = Object.entries(inputs).map(([name, { values, shape }]) => {
        return [name, new Tensor("float32", values, shape)];
      });
      const outputs = Object.entries(await this._activeSession.session.run(Object.fromEntries(tensors)));
      return Object.fromEntries(outputs.map(([name, { data }]) => [name, /** @type {Float32Array} */ (data)]));
    });
  }

  /**
   * Call `act` with the chosen backend, and again with the next one if that fails.
   * @template T
   * @param {(library: Library) => Promise<T>} act
   * @returns {Promise<T>}
   */
  async _with(act) {
    const backend = await this._runtime.backend();
    const started = LIBRARIES[backend]();
    started.catch(() => {}); // the error is thrown below, unless loading the model fails first
    const model = this._active?.backend === backend ? null : await this._load(backend);
    try {
      const library = await started;
      if (model) this._active = { backend, session: await sessionOf(library, model, backend) };
      return await act(library);
    } catch (error) {
      if (backend === "wasm") throw error;
      // Another network may have switched to WebAssembly already.
      if (await this._runtime.backend() === backend) this._runtime.fallBack(error);
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
  // ONNX Runtime's default is half of the cores. With WebGPU threads have almost no work.
  if (globalThis.crossOriginIsolated) {
    env.wasm.numThreads ||= backend === "wasm" ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
  }
  return InferenceSession.create(bytes, { executionProviders: [backend], ...options });
}

/** Return whether a WebGPU adapter exists that is not emulated by the CPU. WebAssembly is faster than emulation. */
async function hasDevice() {
  const { gpu } = /** @type {{gpu?: {requestAdapter: () => Promise<any>}}} */ (globalThis.navigator ?? {});
  const adapter = await gpu?.requestAdapter();
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}
