"""rocketchat_API against a server: URL USER PASSWORD TOKEN ROOM-ID. One JSON line per step. It knows REST only."""
import json
import sys

from rocketchat_API.rocketchat import RocketChat

url, user, password, _token, rid = sys.argv[1:6]


def say(step, **more):
    print(json.dumps({"step": step, **more}), flush=True)


def get(answer):
    return answer.json() if hasattr(answer, "json") else answer


client = RocketChat(user, password, server_url=url)
say("login by password", ok=True)
sent = get(client.chat_send_message({"rid": rid, "msg": "from rocketchat_API"}))["message"]
say("send", ok=True)
edited = get(client.chat_update(rid, sent["_id"], "edited by rocketchat_API"))["message"]
say("edit", ok=edited["msg"] == "edited by rocketchat_API")
client.chat_react(sent["_id"], "eyes")
seen = get(client.chat_get_message(sent["_id"]))["message"]
say("react", ok=":eyes:" in seen["reactions"])
reply = get(client.chat_send_message({"rid": rid, "tmid": sent["_id"], "msg": "in the thread"}))["message"]
say("thread", ok=reply["tmid"] == sent["_id"])
# The library repeats no call; a new one after an outage has to work with the token it has.
say("cut me")
sys.stdin.readline()
seen = get(client.chat_get_message(sent["_id"]))["message"]
say("back", ok=seen["_id"] == sent["_id"])
