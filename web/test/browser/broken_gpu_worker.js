/** The decoder's worker where a browser promises WebGPU and does not keep it; its warnings are told to the page. */

import "./broken_gpu.js";
import "../../src/worker.js";
