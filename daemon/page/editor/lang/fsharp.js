import{b as e}from"../part-ENMESB4W.js";import{va as r}from"../part-45VXAKZ5.js";var m=()=>r.define(e);export{m as default};
