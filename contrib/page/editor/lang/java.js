export { java as default } from "@codemirror/lang-java";
