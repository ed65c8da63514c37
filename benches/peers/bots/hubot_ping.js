// `!ping N` → `pong N` as a script of hubot.
module.exports = robot => robot.hear(/^!ping (.+)$/, response => response.send("pong " + response.match[1]));
