/** Runs all tests in a browser, and sends each result to the server. */

import { addBackendTests } from "./backends.js";
import { json, runAll } from "./check.js";
import { addDecoderTests } from "./decoder.js";
import { addElementTests } from "./element.js";
import { addViewerTests } from "./viewer.js";

/** @param {import("./check.js").Result | null} result null at the end */
const tell = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });

addDecoderTests(await json("/vectors.json"));
await addBackendTests();
addElementTests();
addViewerTests();
await runAll(tell);
await tell(null);
