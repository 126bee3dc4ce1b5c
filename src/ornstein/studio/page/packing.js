// Packing of many pictures into a few zips, to send a large folder in few requests and keep its subfolders.
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const MAX_BYTES = 32e6, MAX_FILES = 2000; // per zip, well below the limits of the studio

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// Little-endian bytes of numbers, given as pairs of a value and its size.
function record(...pairs) {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [, size]) => sum + size, 0)));
  let offset = 0;
  for (const [value, size] of pairs) {
    if (size === 4) view.setUint32(offset, value, true);
    else view.setUint16(offset, value, true);
    offset += size;
  }
  return view;
}

// A zip with uncompressed entries and UTF-8 names (bit 11 of the flags).
async function zipOf(files) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { file, path } of files) {
    const name = new TextEncoder().encode(path), content = new Uint8Array(await file.arrayBuffer());
    const fields = [[20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [checksum(content), 4], [content.length, 4], [content.length, 4], [name.length, 2], [0, 2]];
    parts.push(record([0x04034b50, 4], ...fields), name, content);
    directory.push(record([0x02014b50, 4], [20, 2], ...fields, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), name);
    offset += 30 + name.length + content.length;
  }
  const size = directory.reduce((sum, part) => sum + part.byteLength, 0);
  const end = record([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new File([...parts, ...directory, end], "pictures.zip");
}

// Uploads of files: groups of them as one zip each, and the user's own zips unchanged. `content` makes the file to send.
export function packUploads(files) {
  const isZip = ({ path }) => /\.zip$/i.test(path);
  const uploads = files.filter(isZip).map(entry => ({ files: [entry], content: async () => entry.file }));
  let group = null, bytes = 0;
  for (const entry of files.filter(entry => !isZip(entry))) {
    if (!group || group.length >= MAX_FILES || bytes + entry.file.size > MAX_BYTES) {
      const batch = group = [];
      bytes = 0;
      uploads.push({ files: batch, content: () => zipOf(batch) });
    }
    group.push(entry);
    bytes += entry.file.size;
  }
  return uploads;
}
