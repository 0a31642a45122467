/** The decoder's worker in a browser whose WebGPU does not work. */

import "./broken_gpu.js";
import "../../src/worker.js";
