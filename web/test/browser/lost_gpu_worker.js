/** The decoder's worker where WebGPU works until the page says so; its warnings are told to the page. */

import "./lost_gpu.js";
import "../../src/worker.js";
