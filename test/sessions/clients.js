// So many clients of Socket.IO with its default transports; prints what they have met as JSON.
const { io } = require("socket.io-client");

async function client(url, seen) {
  const socket = io(url, { forceNew: true, reconnection: false });
  await new Promise((done) => {
    socket.on("connect", done);
    socket.on("connect_error", (error) => {
      seen.errors.push(`${error} ${JSON.stringify(error.context?.responseText ?? "")}`);
      done();
    });
  });
  if (!socket.connected) return;
  socket.on("disconnect", (why) => seen.left.push(why));
  const own = [];
  for (let n = 0; n < 5; n++) own.push(await socket.timeout(20000).emitWithAck("count"));
  await new Promise((done) => {
    if (socket.io.engine.transport.name === "websocket") done();
    else socket.io.engine.once("upgrade", done);
  });
  own.push(await socket.timeout(20000).emitWithAck("count"));
  seen.clients.push(own);
}

const [url, number] = process.argv.slice(2);
const seen = { errors: [], left: [], clients: [] };
Promise.all(Array.from({ length: Number(number) }, () => client(url, seen))).then(() => {
  console.log(JSON.stringify(seen));
  process.exit(0);
});
