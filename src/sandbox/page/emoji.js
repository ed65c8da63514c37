// Emoji by their shortcodes, and the few emoticons that Rocket.Chat turns into them. Data, and one look-up.

export const EMOJI = {
  white_check_mark: "✅", "+1": "👍", thumbsup: "👍", x: "❌", "-1": "👎", thumbsdown: "👎", octagonal_sign: "🛑",
  eyes: "👀", rocket: "🚀", tada: "🎉", heart: "❤️", joy: "😂", smile: "😄", slight_smile: "🙂", thinking: "🤔",
  pray: "🙏", clap: "👏", fire: "🔥", warning: "⚠️", rotating_light: "🚨", hourglass: "⌛", hourglass_flowing_sand: "⏳",
  arrows_counterclockwise: "🔄", repeat: "🔁", rewind: "⏪", leftwards_arrow_with_hook: "↩️", lock: "🔒", unlock: "🔓",
  package: "📦", mag: "🔍", memo: "📝", clipboard: "📋", bulb: "💡", question: "❓", grey_question: "❔",
  exclamation: "❗", no_entry: "⛔", no_entry_sign: "🚫", stop_sign: "🛑", stopwatch: "⏱️", clock1: "🕐", alarm_clock: "⏰",
  calendar: "📆", bar_chart: "📊", floppy_disk: "💾", whale: "🐳", bug: "🐛", wrench: "🔧", gear: "⚙️", link: "🔗",
  white_circle: "⚪", red_circle: "🔴", large_blue_circle: "🔵", green_circle: "🟢", yellow_circle: "🟡",
  orange_circle: "🟠", black_circle: "⚫", heavy_check_mark: "✔️", ballot_box_with_check: "☑️", point_right: "👉",
  wave: "👋", ok_hand: "👌", muscle: "💪", robot: "🤖", robot_face: "🤖", sparkles: "✨", zzz: "💤", skull: "💀",
  raised_hand: "✋", raising_hand: "🙋", sos: "🆘", arrow_forward: "▶️", double_vertical_bar: "⏸️", pause_button: "⏸️",
  hand: "✋", bell: "🔔", mega: "📣", loudspeaker: "📢", ship: "🚢", construction: "🚧", key: "🔑", shield: "🛡️", books: "📚",
  chart_with_upwards_trend: "📈", chart_with_downwards_trend: "📉", satellite: "🛰️", new_moon: "🌑", full_moon: "🌕",
  sunny: "☀️", cloud: "☁️", zap: "⚡", snowflake: "❄️", coffee: "☕", beers: "🍻", beer: "🍺", cake: "🎂", pizza: "🍕",
  cat: "🐱", dog: "🐶", penguin: "🐧", snail: "🐌", turtle: "🐢", crab: "🦀", unicorn: "🦄", star: "⭐", star2: "🌟",
  "100": "💯", boom: "💥", bomb: "💣", broom: "🧹", hammer: "🔨", hammer_and_wrench: "🛠️", paperclip: "📎", pushpin: "📌",
  wastebasket: "🗑️", envelope: "✉️", phone: "☎️", computer: "💻", desktop: "🖥️", door: "🚪", hotel: "🏨", house: "🏠",
  grin: "😁", smiley: "😃", laughing: "😆", wink: "😉", blush: "😊", sunglasses: "😎", heart_eyes: "😍", neutral_face: "😐",
  confused: "😕", cry: "😢", angry: "😠", rage: "😡", scream: "😱", sleeping: "😴", upside_down: "🙃", shrug: "🤷",
  facepalm: "🤦", partying_face: "🥳", hugging: "🤗", nerd: "🤓", exploding_head: "🤯", v: "✌️", crossed_fingers: "🤞",
  handshake: "🤝", point_left: "👈", point_up: "☝️", point_down: "👇", raised_hands: "🙌", broken_heart: "💔",
  green_heart: "💚", blue_heart: "💙", trophy: "🏆", dart: "🎯", gift: "🎁", balloon: "🎈", checkered_flag: "🏁",
  seedling: "🌱", earth_africa: "🌍", globe_with_meridians: "🌐", arrow_up: "⬆️", arrow_down: "⬇️", fast_forward: "⏩",
  heavy_plus_sign: "➕", heavy_minus_sign: "➖", heavy_multiplication_x: "✖️", small_red_triangle: "🔺", see_no_evil: "🙈", sweat_smile: "😅", sob: "😭", information_source: "ℹ️",
};

const TONES = ["🏻", "🏼", "🏽", "🏾", "🏿"];

/** `:+1_tone3:` and the like; null for a name that is not known. */
export function emoji(code) {
  const [, name, tone] = /^:?(.+?)(?:_tone([1-5]))?:?$/.exec(code) ?? [];
  const sign = Object.hasOwn(EMOJI, name) ? EMOJI[name] : null;
  return sign && tone ? sign + TONES[tone - 1] : sign;
}

/** What stands alone as a word and is a face. */
export const EMOTICONS = { ":)": "🙂", ":-)": "🙂", ":D": "😃", ":-D": "😃", ";)": "😉", ";-)": "😉", ":(": "🙁", ":-(": "🙁", ":P": "😛", ":-P": "😛", "<3": "❤️", ":'(": "😢" };

/** The codes that begin with, or else contain, what was typed; each sign once. */
export function suggest(part, most = 8) {
  const signs = new Set();
  const names = Object.keys(EMOJI);
  const found = [...names.filter(name => name.startsWith(part)), ...names.filter(name => name.includes(part))];
  return found.filter(name => !signs.has(EMOJI[name]) && signs.add(EMOJI[name])).slice(0, most);
}
