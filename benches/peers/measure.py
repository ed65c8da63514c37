"""Measures Houston and its peers against one sandbox, interleaved: see `benches/README.md`, started by `peers.sh`.

Every bot has an account with the roles `user` and `bot`, a private room, and a person who talks to it there.
Must not: know a bot more closely than that it answers `!ping N` with `pong N`.
"""
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import websockets

HERE = Path(__file__).parent
DIR = Path(sys.argv[1])
TURNS, PINGS, SLOW_PINGS, BURST, STARTS = 12, 40, 3, 300, 5
# A connection may make 600 calls a minute, and a bot that answers over its socket makes one for each answer: each
# kind of question has a minute of its own.
MINUTE = 61
clock = time.perf_counter


def token(name):
    return f"token-of-{name}-0123456789abcdefghijklmnop"


def post(url, body, headers=None):
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


class Sandbox:
    """The chat server, with Rocket.Chat's default limits."""

    def __init__(self, names):
        people, rooms = [], []
        for name in names:
            people.append({"username": f"bot-{name}", "token": token(f"bot-{name}"), "roles": ["user", "bot"]})
            talkers = [f"of-{name}", f"much-{name}"]
            people.extend({"username": talker, "token": token(talker)} for talker in talkers)
            rooms.append({"name": name, "private": True, "members": [*talkers, f"bot-{name}"]})
        seed = DIR / "seed.json"
        seed.write_text(json.dumps({"people": people, "rooms": rooms}))
        command = [os.environ["HOUSTON"], "sandbox", "--port", "0", "--seed", str(seed)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        self.url = self.process.stdout.readline().strip().removeprefix("sandbox: ")
        post(f"{self.url}/_sandbox/grant", {"permission": "send-many-messages", "roles": ["user", "bot"]})

    async def control(self, act, **body):
        return await asyncio.to_thread(post, f"{self.url}/_sandbox/{act}", body)


class Person:
    """Who talks to one bot, over one socket of the realtime API."""

    def __init__(self, sandbox, name, kind="of"):
        self.sandbox, self.name, self.user, self.heard, self.calls = sandbox, name, f"{kind}-{name}", {}, 0
        self.changed = asyncio.Event()

    async def connect(self):
        self.socket = await websockets.connect(self.sandbox.url.replace("http", "ws", 1) + "/websocket", max_size=None)
        await self.send({"msg": "connect", "version": "1", "support": ["1"]})
        await self.call("login", {"resume": token(self.user)})
        subscription = {"msg": "sub", "id": "room", "name": "stream-room-messages", "params": [f"r-{self.name}", False]}
        await self.send(subscription)
        self.reader = asyncio.create_task(self.read())

    async def send(self, frame):
        await self.socket.send(json.dumps(frame))

    async def call(self, method, *params):
        self.calls += 1
        await self.send({"msg": "method", "id": str(self.calls), "method": method, "params": params})

    async def read(self):
        async for frame in self.socket:
            at = clock()
            if frame == '{"msg":"ping"}':
                await self.send({"msg": "pong"})
                continue
            if '"stream-room-messages"' not in frame:
                continue
            message = json.loads(frame)["fields"]["args"][0]
            # A message counts once, whatever is emitted again.
            if message["_id"] not in self.heard:
                self.heard[message["_id"]] = (at, message["u"]["username"], message.get("msg", ""))
                self.changed.set()

    async def say(self, text):
        await self.call("sendMessage", {"rid": f"r-{self.name}", "msg": text})

    def answers(self, text):
        bot = f"bot-{self.name}"
        return [at for at, who, said in self.heard.values() if who == bot and said == text]

    async def until(self, holds, seconds):
        """Whether it holds within that time."""
        end = clock() + seconds
        while not holds():
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), end - clock())
            except (TimeoutError, asyncio.TimeoutError):
                return holds()
        return True

    async def ping(self, word, seconds=5):
        """From its sending to the answer's frame, in ms; None when none came. From its own frame on would be too
        short where this program is late to read: it would see both frames at once."""
        begun = clock()
        await self.say(f"!ping {word}")
        if not await self.until(lambda: self.answers(f"pong {word}"), seconds):
            return None
        return (self.answers(f"pong {word}")[0] - begun) * 1000


class Bot:
    def __init__(self, name, package, command, env=None, slow=False):
        self.name, self.package, self.command, self.extra, self.slow = name, package, command, env or {}, slow
        self.process, self.trips, self.lost, self.row = None, [], 0, {}

    def start(self, sandbox):
        user = f"bot-{self.name}"
        env = {**os.environ, "PEER_URL": sandbox.url, "PEER_USER": user, "PEER_PASSWORD": user, "PEER_ID": f"u-{user}",
               "PEER_TOKEN": token(user), **self.extra}
        home = DIR / self.name
        with open(DIR / f"{self.name}.log", "a") as log:
            self.process = subprocess.Popen(self.command, env=env, cwd=home, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.alive():
                os.killpg(self.process.pid, sign)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    pass

    def memory(self):
        """Resident memory of the process and its children, in MB."""
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                session = int(stat.read_text().rsplit(")", 1)[1].split()[3])
                if session == self.process.pid:
                    lines = (stat.parent / "status").read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
            except (OSError, IndexError, ValueError):
                continue
        return total * 1024 / 1e6


def bots(sandbox_url):
    """Those that are installed."""
    def folder(name):
        (DIR / name).mkdir(exist_ok=True)
        return DIR / name

    # A fresh state each time: an old one would ask about what was said in another sandbox.
    home = folder("houston")
    subprocess.run(["rm", "-rf", home / "state"], check=True)
    (home / "token").write_text(token("bot-houston"))
    (home / "houston.yaml").write_text(
        f"rocketchat: {{url: {sandbox_url}, user_id: u-bot-houston, token: {{file: token}}}}\n"
        "access: {roles: {operator: {users: [of-houston]}}}\nlimits: {commands_per_minute: 10000}\n")
    found = [Bot("houston", None, [os.environ["HOUSTON"], "serve", "--config", ".", "--state", "state"])]
    if (DIR / "rocketchat-async/.installed").exists():
        found.append(Bot("rocketchat-async", "rocketchat-async",
                         [DIR / "rocketchat-async/bin/python", HERE / "bots/rocketchat_async_bot.py"]))
    if (DIR / "rocketbotte/.installed").exists():
        found.append(Bot("rocketbotte", "rocketbotte",
                         [DIR / "rocketbotte/bin/python", HERE / "bots/rocketbotte_bot.py"]))
    if (DIR / "sdk-echo/.installed").exists():
        found.append(Bot("sdk-echo", "@rocket.chat/sdk", ["node", HERE / "bots/sdk_echo.js"],
                         {"NODE_PATH": str(DIR / "sdk-echo/node_modules")}))
    if (DIR / "hubot/.installed").exists():
        scripts = DIR / "hubot/scripts"
        scripts.mkdir(exist_ok=True)
        (scripts / "ping.js").write_text((HERE / "bots/hubot_ping.js").read_text())
        env = {"ROCKETCHAT_URL": sandbox_url, "ROCKETCHAT_USER": "bot-hubot", "ROCKETCHAT_PASSWORD": "bot-hubot",
               "ROCKETCHAT_ROOM": "hubot", "LISTEN_ON_ALL_PUBLIC": "false", "PATH": f"{DIR / 'hubot/node_modules/.bin'}:{os.environ['PATH']}"}
        found.append(Bot("hubot", "hubot-rocketchat",
                         ["node_modules/.bin/hubot", "--adapter", "rocketchat", "--disable-httpd"], env))
    if (DIR / "opsdroid/.installed").exists():
        skill, connector = DIR / "opsdroid/skill", DIR / "opsdroid/connector"
        for place, file in [(skill, "opsdroid_ping.py"), (connector, "opsdroid_connector.py")]:
            place.mkdir(exist_ok=True)
            (place / "__init__.py").write_text((HERE / "bots" / file).read_text())
        (DIR / "opsdroid/configuration.yaml").write_text(json.dumps({
            "logging": {"level": "warning"}, "web": {"host": "127.0.0.1", "port": 0, "disable_web_index_handler": True},
            "connectors": {"rocketchat_mended": {"path": str(connector), "user-id": "u-bot-opsdroid", "token": token("bot-opsdroid"),
                                          "channel-url": sandbox_url, "group": "opsdroid", "bot-name": "bot-opsdroid"}},
            "skills": {"ping": {"path": str(skill)}}}))
        found.append(Bot("opsdroid", "opsdroid", ["bin/opsdroid", "start", "-f", "configuration.yaml"], slow=True))
    return found


def version(bot):
    if bot.package is None:
        said = subprocess.run([os.environ["HOUSTON"], "--version"], capture_output=True, text=True).stdout
        return said.split()[-1]
    package = DIR / bot.name / "node_modules" / bot.package / "package.json"
    if package.exists():
        return json.loads(package.read_text())["version"]
    ask = f"import importlib.metadata as m; print(m.version('{bot.package}'))"
    return subprocess.run([DIR / bot.name / "bin/python", "-c", ask], capture_output=True, text=True).stdout.strip()


async def first_answer(bot, person, word, seconds, pause):
    """Asks again and again until an answer to one of the questions is there: when."""
    begun, end = len(person.heard), clock() + seconds

    def answer():
        bot = f"bot-{person.name}"
        recent = list(person.heard.values())[begun:]
        return next((at for at, who, said in recent if who == bot and said.startswith(f"pong {word}-")), None)

    asked = 0
    while answer() is None and clock() < end and bot.alive():
        await person.say(f"!ping {word}-{asked}")
        asked += 1
        # Not so often after a while, since a person may make 600 calls a minute.
        await person.until(answer, pause if asked < 100 else max(pause, 0.5))
    return answer()


async def cold_starts(sandbox, bot, person):
    times = []
    # Once, where it takes so long.
    while len(times) < STARTS and not (times and times[0] > 10_000):
        n, begun = len(times), clock()
        bot.start(sandbox)
        at = await first_answer(bot, person, f"cold{n}", 60, 0.02)
        if at is None:
            bot.stop()
            return None
        times.append((at - begun) * 1000)
        # What else was asked is answered before the next start.
        await asyncio.sleep(1.5 if bot.slow else 0.5)
        bot.stop()
    return statistics.median(times)


async def burst(sandbox, bot, turn):
    # Somebody who has said nothing yet: a person may make 1200 calls a minute.
    person = Person(sandbox, bot.name, "much")
    await person.connect()
    await asyncio.sleep(0.5)
    begun = clock()
    for n in range(BURST):
        await person.say(f"!ping b{turn}-{n}")
    words = [f"pong b{turn}-{n}" for n in range(BURST)]
    mine = lambda: [(at, said) for at, who, said in person.heard.values()
                    if who == f"bot-{person.name}" and said.startswith(f"pong b{turn}-")]
    await person.until(lambda: len(mine()) >= BURST, 15)
    # A second answer would come now.
    await asyncio.sleep(1)
    got = mine()
    answered = len({said for _, said in got} & set(words))
    took = (max(at for at, _ in got) - begun) * 1000 if got else None
    return answered, len(got) - answered, took


async def settled(person, text, seconds=2.5):
    await asyncio.sleep(seconds)
    return len(person.answers(text))


async def delivery(sandbox, bot, person):
    """Each row: how many answers there were."""
    row, name = bot.row, bot.name
    patience = 8 if bot.slow else 5

    async def asked(word):
        said = await sandbox.control("say", user=f"of-{name}", room=name, msg=f"!ping {word}")
        await person.until(lambda: person.answers(f"pong {word}"), patience)
        return said["message"]

    message = await asked("reacted")
    await sandbox.control("react", user=f"of-{name}", message=message["_id"], emoji=":+1:", should=True)
    row["reacted"] = await settled(person, "pong reacted")
    message = await asked("again")
    await sandbox.control("reemit", message=message["_id"], count=3)
    row["again"] = await settled(person, "pong again")
    message = await asked("staging")
    body = {"roomId": f"r-{name}", "msgId": message["_id"], "text": "!ping prod"}
    headers = {"X-User-Id": f"u-of-{name}", "X-Auth-Token": token(f"of-{name}")}
    await asyncio.to_thread(post, f"{sandbox.url}/api/v1/chat.update", body, headers)
    row["edited"] = await settled(person, "pong prod")
    await sandbox.control("say", user=f"bot-{name}", room=name, msg="!ping myself")
    row["own"] = await settled(person, "pong myself")
    now = int(time.time() * 1000)
    same = [{"room": name, "u": f"of-{name}", "msg": f"!ping same{n}", "ts": {"$date": now}} for n in range(5)]
    await sandbox.control("send", messages=same)
    await asyncio.sleep(patience)
    row["same"] = sum(1 for n in range(5) if person.answers(f"pong same{n}"))
    await asked("before")
    late = {"room": name, "u": f"of-{name}", "msg": "!ping late", "ts": {"$date": int(time.time() * 1000) - 400}}
    # The newest is in the room already when this one comes.
    newest = {"room": name, "u": f"of-{name}", "msg": "!ping newest", "ts": {"$date": int(time.time() * 1000)}}
    await sandbox.control("send", messages=[newest])
    await person.until(lambda: person.answers("pong newest"), patience)
    await sandbox.control("send", messages=[late])
    row["late"] = await settled(person, "pong late", patience)


async def reconnect(sandbox, bot, person):
    row, name = bot.row, bot.name
    if not bot.slow:
        begun = clock()
        await sandbox.control("drop", user=f"bot-{name}")
        at = await first_answer(bot, person, "back", 40, 0.02)
        row["back"] = (at - begun) * 1000 if at else None
        await asyncio.sleep(1)
    row["exited"] = not bot.alive()
    if row["exited"]:
        bot.start(sandbox)
        await first_answer(bot, person, "again-up", 60, 0.2)


async def away(sandbox, bots_and_people):
    """The server is away for two seconds, for everybody; the people talk meanwhile."""
    # Away first: a socket that is lost comes back at once.
    await sandbox.control("refuse", requests=0, ms=2000)
    for bot, _ in bots_and_people:
        await sandbox.control("drop", user=f"bot-{bot.name}")
    await asyncio.sleep(0.5)
    for _, person in bots_and_people:
        await sandbox.control("say", user=f"of-{person.name}", room=person.name, msg="!ping meanwhile")
    await asyncio.sleep(30)
    for bot, person in bots_and_people:
        bot.row["meanwhile"] = len(person.answers("pong meanwhile"))
        bot.row["gone"] = not bot.alive()


def percentile(times, percent):
    times = sorted(times)
    return times[max(0, -(-len(times) * percent // 100) - 1)]


def ms(time):
    if time is None:
        return "never"
    return f"{time:.2f} ms" if time < 10 else f"{time:.0f} ms" if time < 10_000 else f"{time / 1000:.1f} s"


def show(measured, refused):
    columns = ["", *(f"{bot.name} {version(bot)}" for bot in measured)]
    rows = [
        ("`!ping`: being sent → reply frame, p50", lambda b: ms(percentile(b.trips, 50))),
        ("the same, p99", lambda b: ms(percentile(b.trips, 99))),
        ("pings", lambda b: f"{len(b.trips) + b.lost}" + (f", {b.lost} unanswered" if b.lost else "")),
        (f"burst of {BURST}: answered", lambda b: f"{b.row['burst'][0]}"
            + (f" and {b.row['burst'][1]} twice" if b.row["burst"][1] else "")),
        ("burst: first sent → last answer", lambda b: ms(b.row["burst"][2])),
        ("resident memory, idle after start", lambda b: f"{b.row['idle']:.0f} MB"),
        ("resident memory, after all of this", lambda b: f"{b.row['used']:.0f} MB"),
        ("cold start → first answer", lambda b: ms(b.row["cold"])),
        ("socket lost → first answer", lambda b: "polls" if b.slow else "exits" if b.row["exited"] else ms(b.row["back"])),
    ]
    delivered = [
        ("answers when somebody reacts to the command", "reacted", 1), ("answers when it is emitted again three times", "again", 1),
        ("edit of `staging` to `prod` runs `prod`", "edited", 0), ("obeys its own message", "own", 0),
        ("of five messages in one millisecond, answered", "same", 5), ("message that comes 400 ms late, answered", "late", 1),
    ]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for what, cell in rows:
        print("| " + " | ".join([what, *(cell(bot) for bot in measured)]) + " |")
    print("\n| (wanted) | " + " | ".join(columns[1:]) + " |\n|" + "---|" * len(columns))
    for what, key, wanted in delivered:
        cells = (str(b.row[key]) if b.row[key] == wanted else f"**{b.row[key]}**" for b in measured)
        print("| " + " | ".join([f"{what} ({wanted})", *cells]) + " |")
    cells = ("1" if b.row["meanwhile"] == 1 else f"**{b.row['meanwhile']}**" + (" (exited)" if b.row["gone"] else "")
             for b in measured)
    print("| " + " | ".join(["sent while the server was away for 2 s, answered (1)", *cells]) + " |")
    if refused:
        print()
    for name, why in refused:
        print(f"- {name}: {why}")


async def main():
    names = ["houston", "rocketchat-async", "rocketbotte", "sdk-echo", "hubot", "opsdroid"]
    refused = [line.split("\t", 1) for line in (DIR / "not-installed").read_text().splitlines()]
    sandbox = Sandbox(names)
    only = sys.argv[2:]
    everybody = [bot for bot in bots(sandbox.url) if not only or bot.name in only]
    say = lambda text: print(text, file=sys.stderr, flush=True)
    try:
        pairs = []
        for bot in everybody:
            (DIR / f"{bot.name}.log").write_text("")
            person = Person(sandbox, bot.name)
            await person.connect()
            say(f"{bot.name}: cold starts")
            bot.row["cold"] = await cold_starts(sandbox, bot, person)
            if bot.row["cold"] is None:
                refused.append((bot.name, f"does not answer; its last line: {(DIR / f'{bot.name}.log').read_text()[-300:]!r}"))
                continue
            bot.start(sandbox)
            await first_answer(bot, person, "up", 60, 0.2)
            pairs.append((bot, person))
        await asyncio.sleep(MINUTE)
        for bot, _ in pairs:
            bot.row["idle"] = bot.memory()
        say("pings, in turns")
        for turn in range(TURNS):
            for bot, person in pairs:
                for n in range(SLOW_PINGS if bot.slow else PINGS):
                    trip = await person.ping(f"p{turn}-{n}")
                    # The first turn is the warm-up.
                    if trip is None:
                        bot.lost += turn > 0
                    elif turn > 0:
                        bot.trips.append(trip)
        await asyncio.sleep(MINUTE)
        say("bursts")
        for bot, person in pairs:
            bot.row["burst"] = await burst(sandbox, bot, 0)
        await asyncio.sleep(MINUTE)
        say("delivery")
        for bot, person in pairs:
            await delivery(sandbox, bot, person)
        for bot, _ in pairs:
            bot.row["used"] = bot.memory()
        say("lost sockets")
        for bot, person in pairs:
            await reconnect(sandbox, bot, person)
        await away(sandbox, pairs)
        show([bot for bot, _ in pairs], refused)
    finally:
        for bot in everybody:
            if bot.process:
                bot.stop()
        sandbox.process.kill()


asyncio.run(main())
