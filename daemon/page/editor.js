// The editor: CodeMirror, its look, and one state for each file.
//
// It lives in a shadow root: there its styles need no `style` element, which the page's policy
// would refuse.

import * as cm from "./editor/codemirror.js";

const look = cm.EditorView.theme({
  "&": {
    height: "100%",
    color: "var(--text)",
    backgroundColor: "var(--paper)",
    fontSize: "var(--code-size)",
  },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55", overflow: "auto" },
  ".cm-content": { caretColor: "var(--accent)", padding: "10px 0" },
  ".cm-line": { padding: "0 12px 0 6px" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  ".cm-gutters": { backgroundColor: "var(--paper)", color: "var(--faint)", border: "none" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 8px 0 14px", minWidth: "24px" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--line-now)" },
  ".cm-activeLineGutter": { color: "var(--text)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground":
    {
      backgroundColor: "var(--selected)",
    },
  "&.cm-focused .cm-matchingBracket": {
    backgroundColor: "var(--matching)",
    outline: "1px solid var(--edge-strong)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--matching)" },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)" },
  ".cm-panels.cm-panels-bottom": { borderTop: "1px solid var(--edge)" },
  ".cm-textfield": {
    backgroundColor: "var(--paper)",
    border: "1px solid var(--edge-strong)",
    borderRadius: "5px",
  },
  ".cm-button": {
    backgroundImage: "none",
    backgroundColor: "var(--paper)",
    border: "1px solid var(--edge-strong)",
    borderRadius: "5px",
  },
  ".cm-tooltip": {
    backgroundColor: "var(--raised)",
    border: "1px solid var(--edge)",
    borderRadius: "6px",
  },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": {
    backgroundColor: "var(--accent)",
    color: "var(--on-accent)",
  },
});

const { tags } = cm;
const colours = cm.HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "var(--code-keyword)" },
  {
    tag: [tags.string, tags.special(tags.string), tags.regexp, tags.character],
    color: "var(--code-string)",
  },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--code-number)" },
  { tag: [tags.comment, tags.meta], color: "var(--code-comment)", fontStyle: "italic" },
  {
    tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.macroName],
    color: "var(--code-function)",
  },
  {
    tag: [tags.typeName, tags.className, tags.namespace, tags.standard(tags.typeName)],
    color: "var(--code-type)",
  },
  {
    tag: [tags.definition(tags.variableName), tags.propertyName, tags.attributeName],
    color: "var(--code-name)",
  },
  { tag: tags.invalid, color: "var(--bad)" },
]);

/**
 * Text typed over other text. Left to itself the browser lets it look like what it replaces, by a style
 * attribute, which the page's policy refuses and the console complains of.
 */
const typedOver = cm.EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { from, to, empty } = view.state.selection.main;
    if (event.inputType !== "insertText" || !event.data || event.isComposing || empty) return false;
    const typed = () =>
      view.state.update(view.state.replaceSelection(event.data), {
        userEvent: "input.type",
        scrollIntoView: true,
      });
    const handlers = view.state.facet(cm.EditorView.inputHandler);
    if (!handlers.some((handler) => handler(view, from, to, event.data, typed))) {
      view.dispatch(typed());
    }
    return true;
  },
});

/** An editor in `host`. `changed(file)` hears of each change, `run` of Ctrl+Enter. */
export function createEditor(host, { changed, run }) {
  const root = host.attachShadow({ mode: "open" });
  const states = new WeakMap();
  let shown;
  const running = cm.Prec.highest(cm.keymap.of([{ key: "Mod-Enter", run: () => (run(), true) }]));
  const heard = cm.EditorView.updateListener.of((update) => {
    if (!update.docChanged) return;
    shown.content = update.state.doc.toString();
    changed(shown);
  });
  const always = [running, basics(), typedOver, look, cm.syntaxHighlighting(colours), heard];
  const view = new cm.EditorView({ parent: root, root });

  return {
    /** Shows a file, as it was left. `support` is a promise of its language's extension. */
    open(file, support) {
      if (shown) states.set(shown, { ...states.get(shown), state: view.state });
      shown = file;
      const known = states.get(file);
      const language = known?.language ?? new cm.Compartment();
      const label = cm.EditorView.contentAttributes.of({ "aria-label": "Text of the file" });
      const fresh = () =>
        cm.EditorState.create({ doc: file.content, extensions: [always, label, language.of([])] });
      view.setState(known?.state ?? fresh());
      states.set(file, { language });
      support.then((extension) => {
        if (shown === file) view.dispatch({ effects: language.reconfigure(extension) });
      });
    },
    focus: () => view.focus(),
  };
}

function basics() {
  return [
    cm.lineNumbers(),
    cm.highlightActiveLineGutter(),
    cm.highlightSpecialChars(),
    cm.history(),
    cm.drawSelection(),
    cm.EditorState.allowMultipleSelections.of(true),
    cm.indentOnInput(),
    cm.indentUnit.of("    "),
    cm.bracketMatching(),
    cm.closeBrackets(),
    cm.autocompletion(),
    cm.highlightActiveLine(),
    cm.highlightSelectionMatches(),
    cm.keymap.of([
      ...cm.closeBracketsKeymap,
      ...cm.defaultKeymap,
      ...cm.searchKeymap,
      ...cm.historyKeymap,
      ...cm.completionKeymap,
      cm.indentWithTab,
    ]),
  ];
}
