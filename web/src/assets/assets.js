/** The files that ship with sdtrt: priors, profiles and networks. Each is loaded once, by its path in `engine/data`. */

import { BundleError } from "../error.js";
import { readNpz } from "./npz.js";

/**
 * Load a file by its path, such as `priors/tiny-1.npz`. Its errors reach the caller.
 * @callback Load
 * @param {string} path
 * @returns {Promise<ArrayBuffer>}
 */

/** A cache of files and of the objects that are built from them. */
export class Assets {
  /** @param {Load} load */
  constructor(load) {
    this.load = load;
    /** @type {Map<string, Promise<unknown>>} */
    this._cache = new Map();
  }

  /**
   * Return the cached result of `make`, calling `make` on the first use of a name. A failure is not cached.
   * @template T
   * @param {string} name
   * @param {() => Promise<T>} make
   * @returns {Promise<T>}
   */
  cached(name, make) {
    let cached = /** @type {Promise<T> | undefined} */ (this._cache.get(name));
    if (!cached) {
      cached = make();
      cached.catch(() => this._cache.delete(name));
      this._cache.set(name, cached);
    }
    return cached;
  }

  /**
   * Return the arrays of a prior.
   * @param {string} name such as `tiny-1`
   * @throws {BundleError} if the file is damaged
   */
  arrays(name) {
    const path = `priors/${name}.npz`;
    return this.cached(path, async () => readNpz(new Uint8Array(await this.load(path))));
  }

  /**
   * Return the content of a JSON file.
   * @param {string} path
   * @returns {Promise<any>}
   * @throws {BundleError} if the file is malformed
   */
  json(path) {
    return this.cached(path, async () => {
      const text = new TextDecoder().decode(await this.load(path));
      try {
        return JSON.parse(text);
      } catch (error) {
        throw new BundleError(`${path} is malformed: ${error}`);
      }
    });
  }
}
