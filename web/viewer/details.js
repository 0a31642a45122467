/** The details of a file as text. */

/** @typedef {[name: string, said: string]} Row */

/**
 * @param {import("../src/decoder.js").Info} info
 * @param {number} nbytes of the file
 * @returns {Row[]}
 */
export function detailsOf(info, nbytes) {
  const { width, height, grey, alpha, latentSpace, method, quality, grid, layout, metadata, bytesBySection } = info;
  const layers = [layout.overlay ? "overlay" : "", layout.residual ? "residual" : ""].filter(Boolean);
  const parts = Object.entries(bytesBySection).filter(([, count]) => count);
  return [
    ...sizesOf(info, nbytes),
    ["Rate", `${((8 * nbytes) / (width * height)).toFixed(2)} bits per pixel`],
    ["Quality", quality === null ? "palette" : quality.toFixed(1)],
    ["Colours", `${grey ? "grey" : "RGB"}${alpha ? " with alpha" : ""}`],
    ["Model", latentSpace],
    ["Latents", `${grid.join(" × ")}${method === "palette" ? ", palette" : ""}`],
    ["LayerReader", layers.join(", ") || "none"],
    ["Metadata", metadata.join(", ") || "none"],
    ["Bytes", parts.map(([name, count]) => `${name} ${count.toLocaleString()}`).join(", ")],
    ["Tiles", `${layout.columns} × ${layout.rows}, ${layout.levels} ${layout.levels === 1 ? "level" : "levels"}`],
  ];
}

/**
 * Return the details that are known even for a damaged file.
 * @param {{width: number, height: number}} image
 * @param {number} nbytes of the file
 * @returns {Row[]}
 */
export function sizesOf({ width, height }, nbytes) {
  return [["Size", `${width} × ${height} pixels`], ["File", `${nbytes.toLocaleString()} bytes`]];
}
