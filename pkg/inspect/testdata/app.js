// A server of Node's that tells, for every line on its input, what it has read to the
// end since the last one. It speaks HTTP/1.1, or with the argument "h2" HTTP/2 without
// TLS. It prints its port first and ends with its input.
'use strict';
const h2 = process.argv[2] === 'h2';
let seen = [];
// note keeps a request once stream has ended well.
function note(stream, complete, method, target, host, raw) {
  const body = [];
  stream.on('data', (d) => body.push(d));
  stream.on('error', () => {});
  stream.on('end', () => {
    const header = [];
    for (let i = 0; i < raw.length; i += 2) {
      const name = raw[i].toLowerCase();
      if (name[0] !== ':' && !['content-length', 'transfer-encoding', 'host'].includes(name)) {
        header.push(name + ': ' + raw[i + 1]);
      }
    }
    if (complete()) {
      seen.push({ Method: method, Target: target, Host: host, Header: header, Body: Buffer.concat(body).toString('latin1') });
    }
  });
}
let server;
if (h2) {
  server = require('http2').createServer({ maxHeaderListPairs: 1000 });
  server.on('stream', (stream, headers, flags, raw) => {
    note(stream, () => !stream.rstCode && !stream.aborted, headers[':method'], headers[':path'], headers[':authority'], raw);
    stream.on('end', () => { if (!stream.destroyed) stream.respond({ ':status': 200 }, { endStream: true }); });
  });
} else {
  server = require('http').createServer((req, res) => {
    const at = req.rawHeaders.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === 'host');
    note(req, () => req.complete, req.method, req.url, at < 0 ? '' : req.rawHeaders[at + 1], req.rawHeaders);
    req.on('end', () => res.end());
  });
  server.maxHeadersCount = 0;
  server.on('clientError', (err, socket) => socket.destroy());
}
server.listen(0, '127.0.0.1', () => {
  console.log(server.address().port);
  require('readline').createInterface({ input: process.stdin })
    .on('line', () => { console.log(JSON.stringify(seen)); seen = []; })
    .on('close', () => process.exit(0));
});
