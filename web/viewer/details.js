/** What a file says of itself, in words. */

/**
 * @param {import("../src/picture.js").Info} info
 * @param {number} nbytes of the file
 * @returns {[string, string][]} names and what they are
 */
export function detailsOf({ width, height, grey, alpha, latentSpace, method, quality, grid, layout }, nbytes) {
  const layers = [layout.overlay ? "overlay" : "", layout.residual ? "residual" : ""].filter(Boolean);
  return [
    ["Size", `${width} × ${height} pixels`],
    ["File", `${nbytes.toLocaleString()} bytes`],
    ["Rate", `${((8 * nbytes) / (width * height)).toFixed(2)} bits per pixel`],
    ["Quality", quality === null ? "palette" : quality.toFixed(1)],
    ["Colours", `${grey ? "grey" : "RGB"}${alpha ? " with alpha" : ""}`],
    ["Model", latentSpace],
    ["Latents", `${grid.join(" × ")}${method === "palette" ? ", palette" : ""}`],
    ["Layers", layers.join(", ") || "none"],
    ["Tiles", `${layout.columns} × ${layout.rows}, ${layout.levels} ${layout.levels === 1 ? "level" : "levels"}`],
  ];
}
