// What the page carries is compressed JSON.
const TOO_OLD = "This browser is too old to unpack what the page carries (it lacks DecompressionStream)";

async function unpacked(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
