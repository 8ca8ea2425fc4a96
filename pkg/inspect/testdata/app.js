// An HTTP server of Node's that tells, for every line on its input, what it has read
// to the end since the last one. It prints its port first and ends with its input.
'use strict';
const http = require('http');
let seen = [];
const server = http.createServer((req, res) => {
  const body = [];
  req.on('data', (d) => body.push(d));
  req.on('error', () => {});
  req.on('end', () => {
    const header = [];
    let host = '';
    for (let i = 0; i < req.rawHeaders.length; i += 2) {
      const name = req.rawHeaders[i].toLowerCase();
      if (name === 'host') host = req.rawHeaders[i + 1];
      if (!['content-length', 'transfer-encoding', 'host'].includes(name)) {
        header.push(name + ': ' + req.rawHeaders[i + 1]);
      }
    }
    if (req.complete) {
      seen.push({ Method: req.method, Target: req.url, Host: host, Header: header, Body: Buffer.concat(body).toString('latin1') });
    }
    res.end();
  });
});
server.maxHeadersCount = 0;
server.on('clientError', (err, socket) => socket.destroy());
server.listen(0, '127.0.0.1', () => {
  console.log(server.address().port);
  require('readline').createInterface({ input: process.stdin })
    .on('line', () => { console.log(JSON.stringify(seen)); seen = []; })
    .on('close', () => process.exit(0));
});
