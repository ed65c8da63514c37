// `!ping N` → `pong N` with @rocket.chat/sdk, as its README does it.
const { driver } = require("@rocket.chat/sdk");

async function main() {
  const { PEER_URL, PEER_USER, PEER_PASSWORD } = process.env;
  await driver.connect({ host: PEER_URL, useSsl: false });
  await driver.login({ username: PEER_USER, password: PEER_PASSWORD });
  await driver.subscribeToMessages();
  await driver.respondToMessages(async (error, message) => {
    if (error || !message.msg || !message.msg.startsWith("!ping ")) return;
    await driver.sendToRoomId("pong " + message.msg.slice(6), message.rid);
  }, { rooms: true, allPublic: false, dm: false, livechat: false, edited: false });
}

main().catch(error => { console.error(error); process.exit(1); });
