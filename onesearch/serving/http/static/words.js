// The words of the page in English and Chinese.
export const WORDS = {
  en: {
    skip: "Skip to the hits", query: "Query", placeholder: "Search the catalogue…", user: "User", pick: "Search as",
    anyone: "Somebody unknown", history: "History", historyHint: "Click a hit to put it into the history; the next hits change.",
    clear: "Clear the history", filters: "Filters", category: "Category", allCategories: "All categories",
    unseen: "Hide items of the history", compareOn: "Show other rankings", results: "Hits", compare: "Other rankings of this query",
    beam: "Un-ranked beam", text: "BM25", beamNote: "without the reward model", textNote: "words alone", other: "中文",
    dark: "Dark", light: "Light", items: "items", remove: "Remove from the history", because: "Why?", add: "Add to history",
    start: "Type a query, or choose one above.", nothing: "No item fits. Take other words, or fewer filters.",
    loading: "Searching…", retry: "Try again", hits: "hits", inTime: "in", beams: "beams", served: "Served",
    keys: "/ query · ↑ ↓ hits · Enter adds to the history · E explains",
    path: "Path of codes: from coarse to fine", towers: "Reward model", ranks: "Rank in each ranking", probability: "probability",
    click: "Click", purchase: "Purchase after a click", both: "Click and purchase", without_user: "Nothing known of the user",
    under: "items under this prefix", like: "for example:",
    fresh: "new", wanted: "was bought", their: "Their next query", score: "score", noFacts: "no value that most items share",
    changed: "What the user changes:", moved: "higher", fell: "lower", entered: "new among the hits", none: "nothing; the order is the same",
    busy: "The server is busy.", offline: "The server does not answer.", before: "before", open: "page",
  },
  zh: {
    skip: "跳到结果", query: "查询", placeholder: "搜索商品…", user: "用户", pick: "以此用户搜索",
    anyone: "未知用户", history: "历史", historyHint: "点击结果即加入历史，之后的结果会随之变化。",
    clear: "清空历史", filters: "筛选", category: "类目", allCategories: "全部类目",
    unseen: "隐藏历史中的商品", compareOn: "显示其他排序", results: "结果", compare: "同一查询的其他排序",
    beam: "未经奖励模型的束搜索", text: "BM25", beamNote: "仅生成模型", textNote: "仅词匹配", other: "English",
    dark: "深色", light: "浅色", items: "件商品", remove: "从历史中移除", because: "为什么？", add: "加入历史",
    start: "输入查询，或选择上面的示例。", nothing: "没有合适的商品。请换词或减少筛选。",
    loading: "搜索中…", retry: "重试", hits: "条结果", inTime: "用时", beams: "束", served: "线上排序",
    keys: "/ 查询 · ↑ ↓ 结果 · 回车加入历史 · E 解释",
    path: "编码路径：由粗到细", towers: "奖励模型", ranks: "在各排序中的名次", probability: "概率",
    click: "点击", purchase: "点击后购买", both: "点击且购买", without_user: "不知道用户信息",
    under: "件商品在此前缀下", like: "例如：",
    fresh: "新出现", wanted: "实际购买", their: "该用户的下一个查询", score: "得分", noFacts: "没有多数商品共有的值",
    changed: "用户信息带来的变化：", moved: "上升", fell: "下降", entered: "新进入结果", none: "没有变化",
    busy: "服务器繁忙。", offline: "服务器没有响应。", before: "此前", open: "页面",
  },
};

let current = "en";

export function setLanguage(language) {
  current = language in WORDS ? language : "en";
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
}

export const language = () => current;
export const word = (name) => WORDS[current][name] ?? name;
export const number = (value, digits = 0) => value.toLocaleString(current, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const percent = (share) => `${number(100 * share, share < 0.0995 ? 1 : 0)} %`;
