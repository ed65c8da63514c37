// @rocket.chat/ddp-client and @rocket.chat/api-client against a server: ddp-client.js URL USER PASSWORD TOKEN ROOM-ID
// One JSON line per step, `{"step": …, "ok": true, …}`; a step that the server refuses says so in `refused`.
'use strict';
const { createHash } = require('node:crypto');
globalThis.WebSocket ??= require('ws');
const { DDPSDK } = require('@rocket.chat/ddp-client');

const [url, user, password, token, rid] = process.argv.slice(2);
const say = (step, more = {}) => console.log(JSON.stringify({ step, ...more }));
const heard = [];
let wake = () => {};
const until = async (what, fits) => {
  for (;;) {
    const found = heard.find(fits);
    if (found) return found;
    await new Promise((resolve) => { wake = resolve; });
  }
};
const attempt = async (step, act) => {
  try {
    const result = await act();
    say(step, { ok: true });
    return result;
  } catch (error) {
    say(step, { refused: error?.error?.message ?? error?.message ?? error?.error ?? String(error) });
    return undefined;
  }
};

(async () => {
  const sdk = await DDPSDK.createAndConnect(url, { retryCount: 100, retryTime: 50 });
  const digest = createHash('sha256').update(password).digest('hex');
  await attempt('login by password', () => sdk.account.loginWithPassword(user, digest));
  if (!sdk.account.uid) await attempt('login by token', () => sdk.account.loginWithToken(token));
  await attempt('subscribe', () =>
    sdk.stream('room-messages', rid, (message) => { heard.push(message); wake(); }).ready());
  const post = (endpoint, body) => sdk.rest.post(endpoint, body);
  const sent = (await post('/v1/chat.sendMessage', { message: { rid, msg: 'from ddp-client' } })).message;
  await until('send', (message) => message._id === sent._id);
  say('send', { ok: true });
  await post('/v1/chat.update', { roomId: rid, msgId: sent._id, text: 'edited by ddp-client' });
  await until('edit', (message) => message._id === sent._id && message.msg === 'edited by ddp-client' && message.editedAt);
  say('edit', { ok: true });
  await post('/v1/chat.react', { messageId: sent._id, emoji: ':eyes:', shouldReact: true });
  await until('react', (message) => message._id === sent._id && message.reactions?.[':eyes:']);
  say('react', { ok: true });
  const reply = (await post('/v1/chat.sendMessage', { message: { rid, tmid: sent._id, msg: 'in the thread' } })).message;
  await until('thread', (message) => message._id === reply._id && message.tmid === sent._id);
  say('thread', { ok: true });
  await attempt('method sendMessage', () => sdk.call('sendMessage', { rid, msg: 'by method' }));
  await attempt('method deleteMessage', () => sdk.call('deleteMessage', { _id: reply._id }));
  const back = new Promise((resolve) => sdk.connection.once('connected', resolve));
  say('cut me');
  await back;
  // Frames are answered in order: after this answer the subscription of before is in force again.
  await sdk.call('rooms/get', { $date: Date.now() });
  say('again', { ok: true });
  await until('after', (message) => message.msg === 'are you back?');
  say('back', { ok: true });
  process.exit(0);
})().catch((error) => { say('failed', { error: error?.stack ?? JSON.stringify(error) }); process.exit(1); });
