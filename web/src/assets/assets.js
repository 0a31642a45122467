/** The files that ship with sdtrt, each loaded once: priors, profiles, networks, by their path in `engine/data`. */

import { BundleError } from "../error.js";
import { readNpz } from "./npz.js";

/**
 * Gives a file's bytes by its path, such as `priors/tiny-1.npz`; whatever it throws is passed on.
 * @callback Load
 * @param {string} path
 * @returns {Promise<ArrayBuffer>}
 */

/** A cache of files and of what was cached of them. */
export class Assets {
  /** @param {Load} load */
  constructor(load) {
    this.load = load;
    /** @type {Map<string, Promise<unknown>>} */
    this._cache = new Map();
  }

  /**
   * Return what `make` makes, the first time that this is asked for by its name; what failed is tried again.
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
   * @throws {BundleError} if its file is damaged
   */
  arrays(name) {
    const path = `priors/${name}.npz`;
    return this.cached(path, async () => readNpz(new Uint8Array(await this.load(path))));
  }

  /**
   * Return the content of a JSON file.
   * @param {string} path
   * @returns {Promise<any>}
   * @throws {BundleError} if it is none
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
