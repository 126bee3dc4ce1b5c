// Many pictures as a few zips, so that a large folder is sent in a few requests and its folders are kept.
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const MOST_BYTES = 32e6, MOST_FILES = 2000; // of a zip, well below what the studio takes

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// Numbers as little-endian bytes: pairs of a value and its size.
function record(...pairs) {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [, size]) => sum + size, 0)));
  let at = 0;
  for (const [value, size] of pairs) {
    if (size === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += size;
  }
  return view;
}

// A zip whose entries are stored as they are; names are UTF-8 (bit 11 of the flags).
async function zipOf(files) {
  const parts = [], entries = [];
  let at = 0;
  for (const { file, path } of files) {
    const name = new TextEncoder().encode(path), content = new Uint8Array(await file.arrayBuffer());
    const facts = [[20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [checksum(content), 4], [content.length, 4], [content.length, 4], [name.length, 2], [0, 2]];
    parts.push(record([0x04034b50, 4], ...facts), name, content);
    entries.push(record([0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), name);
    at += 30 + name.length + content.length;
  }
  const size = entries.reduce((sum, part) => sum + part.byteLength, 0);
  const end = record([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [at, 4], [0, 2]);
  return new File([...parts, ...entries, end], "pictures.zip");
}

// Groups of files, each of which is sent as one zip; zips of the user's own are sent as they are.
export function packed(files) {
  const groups = files.filter(({ path }) => /\.zip$/i.test(path)).map(one => ({ files: [one], send: async () => one.file }));
  let group = null, bytes = 0;
  for (const one of files.filter(({ path }) => !/\.zip$/i.test(path))) {
    if (!group || group.length >= MOST_FILES || bytes + one.file.size > MOST_BYTES) {
      const mine = group = [];
      bytes = 0;
      groups.push({ files: mine, send: () => zipOf(mine) });
    }
    group.push(one);
    bytes += one.file.size;
  }
  return groups;
}
