// What a web program can do that a proxy may spoil: an HTTP server and a WebSocket echo on one port.
//
// Tests order what happens by named events, each of which happens once:  GET /await/NAME answers with what is told of
// it when it happens, POST /go/NAME makes it happen. A request says with ?as=NAME how to call what becomes of it.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import { WebSocketServer } from 'ws'

const PIECE = Buffer.alloc(65536, '0123456789abcdef')
const events = new Map()

function event(name) {
  if (!events.has(name)) {
    const made = {}
    made.happened = new Promise((resolve) => (made.happen = resolve))
    events.set(name, made)
  }
  return events.get(name)
}

function json(response, facts) {
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify(facts))
}

async function digestOf(request) {
  const digest = createHash('sha256')
  let size = 0
  for await (const piece of request) {
    digest.update(piece)
    size += piece.length
  }
  return { size, digest: digest.digest('hex'), trailers: request.trailers }
}

const routes = {
  '/await': async (_, response, { rest }) => json(response, await event(rest).happened),
  '/go': (_, response, { rest }) => {
    event(rest).happen({})
    response.end()
  },
  '/measure': async (request, response) => json(response, await digestOf(request)),

  // Reads nothing of a body before it may.
  '/later': async (request, response, { name }) => {
    await event(name).happened
    json(response, await digestOf(request))
  },

  '/events': async (_, response, { name }) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    response.write('data: 1\n\n')
    await event(name).happened
    response.end('data: 2\n\n')
  },

  '/trailers': (_, response) => {
    response.writeHead(200, { Trailer: 'X-Digest' })
    const digest = createHash('sha256')
    for (const piece of ['one', 'two']) {
      response.write(piece)
      digest.update(piece)
    }
    response.addTrailers({ 'X-Digest': digest.digest('hex') })
    response.end()
  },

  // As many bytes as asked for. NAME happens when the reader has held it up for a while, or never did: with how far it
  // had come.
  '/bytes': async (_, response, { name, rest }) => {
    response.writeHead(200, { 'Content-Length': rest })
    let written = 0
    while (written < Number(rest)) {
      const piece = PIECE.subarray(0, Number(rest) - written)
      written += piece.length
      if (!response.write(piece)) {
        const stuck = setTimeout(() => event(name).happen({ written }), 300)
        await once(response, 'drain')
        clearTimeout(stuck)
      }
    }
    event(name).happen({ written })
    response.end()
  },

  // Begins an answer and never ends it. NAME happens when the reader has left.
  '/hold': (_, response, { name }) => {
    response.on('close', () => event(name).happen({ whole: response.writableFinished }))
    response.write('begun')
  },

  // Leaves in the middle of an answer: one whose length is known, or one of chunks.
  '/cut': (_, response, { rest }) => {
    response.writeHead(200, rest === 'length' ? { 'Content-Length': '1000' } : {})
    response.write('half', () => response.socket.end())
  },

  // Listens at another address too: answered when it does, or at once when that is to be later.
  '/listen': (_, response, { query }) => {
    const listen = (ready) => serve(Number(query.get('port')), query.get('host'), ready)
    if (query.has('after_ms')) {
      setTimeout(listen, Number(query.get('after_ms')))
      response.end()
    } else {
      listen(() => response.end())
    }
  },
}

async function handle(request, response) {
  const { pathname, searchParams: query } = new URL(request.url, 'http://inside')
  const [, first, rest] = pathname.match(/^(\/[^/]*)\/?(.*)$/)
  await routes[first](request, response, { rest, query, name: query.get('as') })
}

// `Expect: 100-continue`: whether the body may come is the program's to say.
function expected(request, response) {
  if (request.url.startsWith('/refused')) {
    response.writeHead(417, { Connection: 'close' })
    response.end()
  } else {
    response.writeContinue()
    handle(request, response)
  }
}

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } })

const talks = {
  '/echo': (socket, { name }) => {
    socket.on('message', (data, binary) => socket.send(data, { binary }))
    socket.on('ping', (data) => event(`${name}-ping`).happen({ data: data.toString() }))
  },
  '/ping': (socket) => {
    socket.on('pong', (data) => socket.send(`pong ${data}`))
    socket.ping('are you there')
  },
  '/close': (socket) => socket.close(4002, 'enough, ünd schön'),
  '/drop': (socket) => socket.terminate(),
}

function upgrade(request, plain, head) {
  const { pathname, searchParams } = new URL(request.url, 'http://inside')
  const name = searchParams.get('as')
  sockets.handleUpgrade(request, plain, head, (socket) => {
    const { bytesRead, bytesWritten } = plain
    const taken = () => ({ read: plain.bytesRead - bytesRead, written: plain.bytesWritten - bytesWritten })
    const offered = request.headers['sec-websocket-extensions'] ?? null
    socket.on('close', (code, reason) => event(name).happen({ code, reason: reason.toString(), offered, ...taken() }))
    talks[pathname](socket, { name })
  })
}

sockets.on('headers', (headers, request) => headers.push(`X-Said: ${headers.find((line) => /extensions/i.test(line))}`))

function serve(port, host, ready) {
  const server = http.createServer(handle)
  server.on('checkContinue', expected)
  server.on('upgrade', upgrade)
  server.listen(port, host, ready)
}

serve(8000, '127.0.0.1')
