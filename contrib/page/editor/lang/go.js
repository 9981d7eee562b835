export { go as default } from "@codemirror/lang-go";
