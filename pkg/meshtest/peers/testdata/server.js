// A server of HBONE on Node's http2. What it does with a tunnel is in its authority's
// port: 1 refuse with 503, 2 reset, 3 end at once, others echo. It prints its port.
const fs = require('fs'), http2 = require('http2')
const [dir] = process.argv.slice(2)
const file = name => fs.readFileSync(`${dir}/${name}`)
const server = http2.createSecureServer({
  key: file('server.key'), cert: file('server.pem'), ca: file('ca.pem'),
  requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3', settings: { maxConcurrentStreams: 5 },
})
server.on('stream', (stream, headers) => {
  stream.on('error', () => {})
  const odd = Object.keys(headers).filter(name => name.startsWith(':')).sort().join()
  if (headers[':method'] !== 'CONNECT' || odd !== ':authority,:method') return stream.respond({ ':status': 400 }, { endStream: true })
  switch (headers[':authority'].split(':').pop()) {
    case '1': return stream.respond({ ':status': 503 }, { endStream: true })
    case '2': stream.respond({ ':status': 200 }); return setImmediate(() => stream.destroy(new Error('reset')))
    case '3': stream.respond({ ':status': 200 }); return stream.end('bye')
  }
  stream.respond({ ':status': 200 })
  stream.pipe(stream)
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
