// A client of HBONE on Node's http2: it opens a tunnel, sends its standard input
// and writes what comes back to standard output. The last line of standard error says how it ended.
const fs = require('fs'), http2 = require('http2')
const [dir, port, authority] = process.argv.slice(2)
const file = name => fs.readFileSync(`${dir}/${name}`)
const session = http2.connect(`https://127.0.9.1:${port}`, {
  key: file('client.key'), cert: file('client.pem'), ca: file('ca.pem'),
  ALPNProtocols: ['h2'], minVersion: 'TLSv1.3', servername: '', checkServerIdentity: () => undefined,
})
const end = text => { console.error(text); session.destroy() }
session.on('error', err => end(`session ${err.code}`))
const tunnel = session.request({ ':method': 'CONNECT', ':authority': authority, baggage: 'service.name=node' })
let status
tunnel.on('response', headers => {
  status = headers[':status']
  if (status === 200) process.stdin.pipe(tunnel)
})
tunnel.on('data', data => process.stdout.write(data))
tunnel.on('error', err => end(`reset ${err.code} ${tunnel.rstCode}`))
tunnel.on('end', () => { if (status !== 200) end(`status ${status}`) })
tunnel.on('close', () => end(`closed ${status} ${tunnel.rstCode}`))
