/** The decoder's worker with WebGPU that fails on a message of the page. */

import "./lost_gpu.js";
import "../../src/worker.js";
