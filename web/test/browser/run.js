/** Runs in a browser: all tests, each of whose results the server is told. */

import { json, runAll } from "./check.js";
import { addDecoderTests } from "./decoder.js";
import { addElementTests } from "./element.js";
import { addViewerTests } from "./viewer.js";

/** @param {{name: string, error: string | null} | null} result null at the end */
const tell = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });

addDecoderTests(await json("/vectors.json"));
addElementTests();
addViewerTests();
await runAll(tell);
await tell(null);
