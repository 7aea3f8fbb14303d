// Charts, drawn one after another, so that the first is there before the last.
if (document.getElementById("charts")) {
  try {
    for (const [place, item] of Object.entries(await unpacked("charts"))) await Bokeh.embed.embed_item(item, place);
  } catch (error) {
    if (window.DecompressionStream) throw error;
    for (const place of document.querySelectorAll(".chart")) place.textContent = `${TOO_OLD}.`;
  }
}
document.body.dataset.drawn = "yes";
