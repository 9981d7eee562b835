import{c as o}from"../part-ZOJIP2QO.js";import{va as e}from"../part-45VXAKZ5.js";var m=()=>e.define(o);export{m as default};
